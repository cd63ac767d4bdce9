-- What the gateway does to every call. NULL: what it does by default.
ALTER TABLE gateways ADD COLUMN settings TEXT;
