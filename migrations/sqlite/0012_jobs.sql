-- Work that is due at a time. A row is the work that is still to be done: what is done is deleted.

-- The lease says who does it, and until when nobody else may. `revision` moves whenever the job is asked
-- for again, so that what is asked for while it runs is not lost.
CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CONSTRAINT ck_jobs__kind CHECK (kind <> ''),
    payload TEXT NOT NULL,
    due_at TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    lease_holder BLOB,
    lease_until TEXT,
    revision INTEGER NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    dedupe_key TEXT NOT NULL,
    CONSTRAINT uq_jobs__dedupe_key UNIQUE (kind, dedupe_key)
) STRICT;
CREATE INDEX ix_jobs__due_at ON jobs (due_at, id);

-- What happened, for those who act on it: a row of `audit` is the event. `payload` is for machines what
-- `detail` is for people.
ALTER TABLE audit ADD COLUMN payload TEXT NOT NULL DEFAULT '{}';

-- How far each reader of events has come. What the slowest has not read is not pruned.
CREATE TABLE event_cursors (
    name TEXT NOT NULL CONSTRAINT ck_event_cursors__name CHECK (name <> ''),
    seq INTEGER NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT uq_event_cursors__name PRIMARY KEY (name)
) STRICT;
