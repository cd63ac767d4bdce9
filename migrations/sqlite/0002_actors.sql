-- Who acted, when it was no token.

-- A token, an agent or the platform itself. `token_id` is what the first release reads; it is the nil
-- UUID when no token acted.
ALTER TABLE audit ADD COLUMN actor_kind TEXT NOT NULL DEFAULT 'token'
    CONSTRAINT ck_audit__actor_kind CHECK (actor_kind <> '');
ALTER TABLE audit ADD COLUMN actor_id BLOB;
ALTER TABLE audit ADD COLUMN detail TEXT NOT NULL DEFAULT '';
