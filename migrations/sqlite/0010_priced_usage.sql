-- Usage that can be priced when subscription, plan and product are gone.

-- What a price is found by; NULL: nobody said.
ALTER TABLE usage_counters ADD COLUMN tenant_id BLOB;
ALTER TABLE usage_counters ADD COLUMN customer_id BLOB;
ALTER TABLE usage_counters ADD COLUMN plan_id BLOB;
ALTER TABLE usage_counters ADD COLUMN plan_version INTEGER;
ALTER TABLE usage_counters ADD COLUMN product_id BLOB;
ALTER TABLE usage_counters ADD COLUMN environment TEXT;

-- The plan that the agent counted under, in its words: counters of two plans in one hour are two rows.
-- The primary key is what the former release writes by, so it stays; the epoch of the second row tells
-- the two apart. Empty: the agent did not say.
ALTER TABLE usage_counters ADD COLUMN plan_key TEXT NOT NULL DEFAULT '';
