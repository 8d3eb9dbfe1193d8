-- Checkpoints: profiles as they were at a position of the journal. Everything here can be made again from the journal.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- n: the number after the last record that the profile reflects. checksum: CRC-32 of partition, user, n and bytes.
-- Clustered by partition, which is how they are loaded.
CREATE TABLE profiles (
    partition INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (partition, user_id)
) WITHOUT ROWID;

-- How far each partition's profiles and books reflect the journal; written in one transaction with the profiles.
CREATE TABLE marks (partition INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL);

-- How far each source partition was consumed.
CREATE TABLE sources (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
