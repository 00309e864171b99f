"""What was done to which image: one column list (``schema``) makes the Parquet parts (``parquet``) and SQL (``sql``)."""
