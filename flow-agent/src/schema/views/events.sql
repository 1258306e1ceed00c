CREATE VIEW IF NOT EXISTS {database}.recent_events AS
SELECT * FROM {database}.events FINAL
WHERE ts > now() - INTERVAL 7 DAY
ORDER BY ts DESC;

CREATE VIEW IF NOT EXISTS {database}.device_inventory AS
SELECT
    d.address AS address,
    d.mac AS mac,
    min(d.first_seen) AS first_seen,
    max(d.last_seen) AS last_seen,
    groupUniqArray(concat(d.exporter, ':', d.interface)) AS seen_by,
    max(d.own) AS own
FROM {database}.devices AS d
GROUP BY d.address, d.mac;
