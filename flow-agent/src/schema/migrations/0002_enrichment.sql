ALTER TABLE {database}.flows
    ADD COLUMN IF NOT EXISTS src_country LowCardinality(String) COMMENT 'ISO 3166-1 code by GeoIP, empty if unknown',
    ADD COLUMN IF NOT EXISTS dst_country LowCardinality(String) COMMENT 'ISO 3166-1 code by GeoIP, empty if unknown',
    ADD COLUMN IF NOT EXISTS src_asn UInt32 COMMENT 'Autonomous system, 0 if unknown' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS dst_asn UInt32 COMMENT 'Autonomous system, 0 if unknown' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS src_host String COMMENT 'Host name by reverse look-up, empty if unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS dst_host String COMMENT 'Host name by reverse look-up, empty if unknown' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unit LowCardinality(String) COMMENT 'systemd unit or container of the local end, empty if unknown';
