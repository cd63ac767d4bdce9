-- Where callers may send their key besides the usual places. NULL: nowhere.
ALTER TABLE product_publishes ADD COLUMN api_key TEXT;
