-- Which HTTP request asked for it: leads from an audit row to the log. Empty when no request did.
ALTER TABLE audit ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
