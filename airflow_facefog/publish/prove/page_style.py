"""Style of the proof page. Its own file, because it is data."""

STYLE = """
:root{--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d8dee4;--panel:#f6f8fa;--ok:#116329;--okbg:#dafbe1;--bad:#a40e26;
 --badbg:#ffebe9;--link:#0550ae}
@media (prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#9aa4af;--line:#30363d;--panel:#161b22;
 --ok:#56d364;--okbg:#0f2d1a;--bad:#ff8f88;--badbg:#3c1215;--link:#79c0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);
 font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",Arial,sans-serif}
main{max-width:70rem;margin:0 auto;padding:1.5rem 1.25rem}
header{border:1px solid;border-left-width:.5rem;border-radius:.5rem;padding:1.25rem 1.5rem;margin-bottom:2rem}
header.ok{background:var(--okbg);border-color:var(--ok)}
header.bad{background:var(--badbg);border-color:var(--bad)}
.word{margin:0;font-weight:700;letter-spacing:.02em}
header.ok .word{color:var(--ok)}
header.bad .word{color:var(--bad)}
.mark{margin-right:.5rem}
h1{font-size:1.75rem;line-height:1.2;margin:.25rem 0 .5rem}
h2{font-size:1.25rem;margin:2rem 0 .5rem;scroll-margin-top:1rem}
h3{font-size:1rem;margin:1rem 0 .25rem}
p{margin:.5rem 0}
.where{color:var(--soft);font-size:.875rem;margin-bottom:0}
.count{color:var(--soft);font-weight:400}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{text-align:left;vertical-align:top;padding:.5rem .75rem .5rem 0;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;font-size:.8125rem}
tbody th{font-weight:600;white-space:nowrap}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.bar{width:8rem;min-width:4rem;vertical-align:middle}
td.bar div{height:.625rem;border-radius:.1875rem;background:var(--soft)}
tr.ok td.bar div{background:var(--ok)}
tr.bad td.bar div{background:var(--bad)}
tr.bad th,tr.bad td.n{color:var(--bad)}
tr.zero th,tr.zero td{color:var(--soft);font-weight:400}
a{color:inherit}
.list td:first-child{width:45%}
.list td{min-width:5rem}
.key,code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.8125rem;
 overflow-wrap:anywhere;unicode-bidi:isolate}
.soft{color:var(--soft)}
.flag{border:1px solid var(--bad);color:var(--bad);border-radius:.25rem;padding:0 .3rem;font-size:.75rem;
 font-weight:700}
dl{margin:0}
dl div{display:grid;grid-template-columns:12rem 1fr;gap:.25rem 1rem;padding:.5rem 0;
 border-bottom:1px solid var(--line)}
dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere}
footer{max-width:70rem;margin:0 auto;padding:1rem 1.25rem 2rem;color:var(--soft);font-size:.8125rem}
.sr{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@media (max-width:40rem){main{padding:1rem}header{padding:1rem}h1{font-size:1.375rem}dl div{grid-template-columns:1fr}
 td.bar,th.bar{display:none}.list thead{display:none}.list tr{display:block;padding:.5rem 0;
 border-bottom:1px solid var(--line)}
 .list td,.list td:first-child{display:block;width:auto;border:0;padding:.125rem 0;text-align:left}}
@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--ok:#116329;--okbg:#fff;--bad:#a40e26;--badbg:#fff}
 main,footer{max-width:none;
 padding:0}body{font-size:10pt}tr{break-inside:avoid}h2{break-after:avoid}a{text-decoration:none}
 td.bar div,header{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".replace("\n", "")
