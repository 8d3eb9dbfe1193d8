-- The journal: one row a commit (docs/adr/0002-journal-layout.md). Numbers in blobs are little endian.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- The current epoch of each partition that ever had an owner.
CREATE TABLE epochs (partition INTEGER PRIMARY KEY, epoch INTEGER NOT NULL);

-- ends: for every partition the number (u64) of its records in this batch and all before it.
-- body: frames of length (u32), partition (u16), n (u64) and the record; `checksum` is the CRC-32 of seq, ends and body.
-- `ends` comes before `body`, so that a search over seq reads no overflow pages.
CREATE TABLE batches (seq INTEGER PRIMARY KEY, ends BLOB NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL);
