-- What made a change, so that it can be followed to the Envoys that serve it: the request's id (or the
-- job's), and the W3C trace context that it belongs to. Empty: not known.
ALTER TABLE outbox ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
