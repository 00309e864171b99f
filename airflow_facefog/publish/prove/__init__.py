"""Is everything in a store a recorded output? Walk it, hash it, put every object into exactly one class.

``walk`` finds and hashes, ``known`` holds what the audit recorded, ``shown`` what the snapshots name, ``records`` judges our
own bookkeeping, ``strangers`` and ``likeness`` look at what nobody recorded, ``tally`` and ``page`` report, ``proof`` is the
order of it all.
"""
