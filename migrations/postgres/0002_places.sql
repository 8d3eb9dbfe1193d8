-- Where a position lies in the journal's topic, so that a service that starts, or finds its database again, need not look for
-- it from the start of the partition. All null where the journal is no topic, or the place was not known.
ALTER TABLE projection_positions
    ADD COLUMN kafka_offset bigint,
    ADD COLUMN kafka_epoch bigint,
    ADD COLUMN kafka_n bigint,
    ADD CONSTRAINT projection_positions_place CHECK (num_nulls(kafka_offset, kafka_epoch, kafka_n) IN (0, 3));

COMMENT ON COLUMN projection_positions.kafka_offset IS 'Offset in the partition of the journal''s topic from which the records are found; null where it is not known. It only saves time: n says what is reflected, and may be put back alone.';
COMMENT ON COLUMN projection_positions.kafka_epoch IS 'The epoch of the journal that is in force at that offset.';
COMMENT ON COLUMN projection_positions.kafka_n IS 'Number of the first record behind that offset.';
