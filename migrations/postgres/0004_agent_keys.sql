-- What an agent's tokens are bound to, and what was seen of them.

-- Of the key (RFC 7638) that the agent registered with. Without one, it has to register again.
ALTER TABLE agents ADD COLUMN key_thumbprint TEXT;
-- Of the newest token that was given out; older ones are good no longer.
ALTER TABLE agents ADD COLUMN token_generation BIGINT NOT NULL DEFAULT 0;
-- When two processes last used the identity at the same time.
ALTER TABLE agents ADD COLUMN duplicate_seen_at TIMESTAMPTZ;
