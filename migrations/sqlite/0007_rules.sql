-- One living subscription, changes of plan, and what readyz writes.

-- When it was first entitled: from then on it is part of the books and is not deleted.
ALTER TABLE subscriptions ADD COLUMN activated_at TEXT;
UPDATE subscriptions SET activated_at = created_at WHERE status NOT IN ('pending', 'rejected');

-- The terms that it moves to at the period's end.
ALTER TABLE subscriptions ADD COLUMN next_plan_id BLOB;
ALTER TABLE subscriptions ADD COLUMN next_plan_version INTEGER;
ALTER TABLE subscriptions ADD COLUMN plan_changes_at TEXT;
CREATE INDEX ix_subscriptions__plan_changes_at ON subscriptions (plan_changes_at)
    WHERE plan_changes_at IS NOT NULL;
CREATE INDEX ix_subscriptions__next_plan_id ON subscriptions (next_plan_id)
    WHERE next_plan_id IS NOT NULL;

-- One living subscription of a customer to a product in an environment. What the first release let
-- in beside the oldest one lives on until it ends; nothing new comes beside it.
ALTER TABLE subscriptions ADD COLUMN duplicate INTEGER NOT NULL DEFAULT 0;
UPDATE subscriptions SET duplicate = 1
    WHERE status NOT IN ('rejected', 'cancelled', 'expired') AND EXISTS (
        SELECT 1 FROM subscriptions o WHERE o.customer_id = subscriptions.customer_id
        AND o.product_id = subscriptions.product_id AND o.environment = subscriptions.environment
        AND o.status NOT IN ('rejected', 'cancelled', 'expired') AND o.id < subscriptions.id);
CREATE UNIQUE INDEX uq_subscriptions__product_id
    ON subscriptions (customer_id, environment, product_id)
    WHERE duplicate = 0 AND status NOT IN ('rejected', 'cancelled', 'expired');

-- readyz writes here: one row.
CREATE TABLE probes (
    id INTEGER NOT NULL PRIMARY KEY,
    at TEXT NOT NULL
) STRICT;
