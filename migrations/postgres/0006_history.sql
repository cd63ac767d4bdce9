-- Which database this is, and which of its histories it tells: a backup that is restored has told
-- another one since. Agents remember where they were, and do not go back without a person.
CREATE TABLE history (
    id BIGINT NOT NULL PRIMARY KEY CONSTRAINT ck_history__id CHECK (id = 1),
    database_id UUID NOT NULL,
    epoch BIGINT NOT NULL
);
INSERT INTO history (id, database_id, epoch) VALUES (1, gen_random_uuid(), 0);

-- Drawn for each row: the row of the same number in another history has another mark.
ALTER TABLE outbox ADD COLUMN mark BIGINT NOT NULL DEFAULT 0;
