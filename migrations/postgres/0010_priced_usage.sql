-- Usage that can be priced when subscription, plan and product are gone.

-- What a price is found by; NULL: nobody said.
ALTER TABLE usage_counters ADD COLUMN tenant_id UUID;
ALTER TABLE usage_counters ADD COLUMN customer_id UUID;
ALTER TABLE usage_counters ADD COLUMN plan_id UUID;
ALTER TABLE usage_counters ADD COLUMN plan_version BIGINT;
ALTER TABLE usage_counters ADD COLUMN product_id UUID;
ALTER TABLE usage_counters ADD COLUMN environment TEXT;

-- The plan that the agent counted under, in its words: counters of two plans in one hour are two rows.
-- The primary key is what the former release writes by, so it stays; the epoch of the second row tells
-- the two apart. Empty: the agent did not say.
ALTER TABLE usage_counters ADD COLUMN plan_key TEXT NOT NULL DEFAULT '';

-- What never changes in the life of a subscription. Its plan may have been another one then.
UPDATE usage_counters SET
    tenant_id = (SELECT s.tenant_id FROM subscriptions s WHERE s.id = usage_counters.subscription_id),
    customer_id = (SELECT s.customer_id FROM subscriptions s WHERE s.id = usage_counters.subscription_id),
    product_id = (SELECT s.product_id FROM subscriptions s WHERE s.id = usage_counters.subscription_id),
    environment = (SELECT s.environment FROM subscriptions s WHERE s.id = usage_counters.subscription_id)
    WHERE subscription_id IN (SELECT id FROM subscriptions);
