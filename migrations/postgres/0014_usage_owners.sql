-- Whose the usage from before 0010 is: what never changes in the life of a subscription. Its plan may have
-- been another one then. Apart from 0010, whose lock on the table would last for as long as this.
UPDATE usage_counters SET tenant_id = s.tenant_id, customer_id = s.customer_id,
    product_id = s.product_id, environment = s.environment
    FROM subscriptions s
    WHERE s.id = usage_counters.subscription_id AND usage_counters.tenant_id IS NULL;
