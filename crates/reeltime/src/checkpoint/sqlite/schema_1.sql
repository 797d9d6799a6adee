-- Times end in _ms (milliseconds since 1970, UTC) or _ns (nanoseconds).

CREATE TABLE streams (
    id                    TEXT    NOT NULL PRIMARY KEY,
    node                  TEXT    NOT NULL,
    epoch                 INTEGER NOT NULL,
    source                ANY     NOT NULL, -- text, or a blob if it is not UTF-8
    path                  ANY     NOT NULL, -- so are these two
    object_key            ANY     NOT NULL,
    state                 TEXT    NOT NULL, -- active, pending_completion, completed, failed
    reason                TEXT,             -- why it failed
    generation            INTEGER NOT NULL,
    upload                TEXT    NOT NULL, -- none, creating, open
    upload_id             TEXT,             -- of an open upload
    upload_asked_at_ms    INTEGER,          -- of one that is being created
    plan_kind             TEXT    NOT NULL,
    plan_first_bytes      INTEGER NOT NULL,
    plan_max_parts        INTEGER NOT NULL,
    plan_min_part_bytes   INTEGER NOT NULL,
    plan_max_part_bytes   INTEGER NOT NULL,
    plan_max_object_bytes INTEGER NOT NULL,
    version_size_bytes    INTEGER,          -- the file that was completed, or that failed
    version_mtime_ns      INTEGER,
    version_ctime_ns      INTEGER,
    version_inode         INTEGER,
    size_bytes            INTEGER NOT NULL,
    etag                  TEXT,
    crc64nvme             TEXT,             -- base64
    started_at_ms         INTEGER NOT NULL,
    completed_at_ms       INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE parts (
    stream_id         TEXT    NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    part_number       INTEGER NOT NULL,
    generation        INTEGER NOT NULL,
    size_bytes        INTEGER NOT NULL,
    etag              TEXT    NOT NULL,
    crc64nvme         TEXT,                 -- base64
    stored_at_ms      INTEGER NOT NULL,
    uploads           INTEGER NOT NULL,     -- how often the number was sent
    dirty             INTEGER NOT NULL,     -- 1: the file is known to differ by now
    proven_size_bytes INTEGER,              -- the file that surely has these bytes
    proven_mtime_ns   INTEGER,
    proven_ctime_ns   INTEGER,
    proven_inode      INTEGER,
    PRIMARY KEY (stream_id, part_number)
) STRICT, WITHOUT ROWID;

-- For people: SELECT * FROM overview;
CREATE VIEW overview AS
SELECT
    s.id,
    s.state,
    s.reason,
    s.node,
    CAST(s.path AS TEXT) AS path,
    s.size_bytes,
    count(p.part_number) AS parts_sent,
    coalesce(sum(p.size_bytes), 0) AS sent_bytes,
    strftime('%Y-%m-%dT%H:%M:%SZ', s.started_at_ms / 1000, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', s.completed_at_ms / 1000, 'unixepoch') AS completed_at
FROM streams AS s
LEFT JOIN parts AS p ON p.stream_id = s.id AND p.generation = s.generation
GROUP BY s.id;
