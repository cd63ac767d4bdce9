-- What the agent's build can serve, as of its last heartbeat. NULL: it did not say.
ALTER TABLE agents ADD COLUMN capabilities JSONB;
