-- Format 3: where a position lies in the journal's topic: an offset, the epoch that is in force there, and the number of the
-- first record behind it. All null where the journal is no topic, or the place was not known. It only saves the search from
-- the start of the partition: next_n alone says what is reflected.
ALTER TABLE positions ADD COLUMN kafka_offset INTEGER;
ALTER TABLE positions ADD COLUMN kafka_epoch INTEGER;
ALTER TABLE positions ADD COLUMN kafka_n INTEGER;
