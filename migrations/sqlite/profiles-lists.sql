-- List entries, all of a partition in one row; of a partition without a row they are read off the profiles. In a file of
-- its own because a profiles.db of an earlier release gets the table when it is opened.
CREATE TABLE IF NOT EXISTS lists (partition INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL);
