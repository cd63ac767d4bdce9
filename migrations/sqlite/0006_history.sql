-- Which database this is, and which of its histories it tells: a backup that is restored has told
-- another one since. Agents remember where they were, and do not go back without a person.
CREATE TABLE history (
    id INTEGER NOT NULL PRIMARY KEY CONSTRAINT ck_history__id CHECK (id = 1),
    database_id BLOB NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO history (id, database_id, epoch) VALUES (1, randomblob(16), 0);

-- Drawn for each row: the row of the same number in another history has another mark.
ALTER TABLE outbox ADD COLUMN mark INTEGER NOT NULL DEFAULT 0;
