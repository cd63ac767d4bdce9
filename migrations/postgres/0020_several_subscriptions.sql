-- More than one living subscription of a customer to a product in an environment, where the plan allows it.

ALTER TABLE plans ADD COLUMN subscriptions_per_customer BIGINT NOT NULL DEFAULT 1;

-- Which of them it is, from 0. The former release makes the first one only, which is unique as before.
ALTER TABLE subscriptions ADD COLUMN ordinal BIGINT NOT NULL DEFAULT 0;
DROP INDEX uq_subscriptions__product_id;
CREATE UNIQUE INDEX uq_subscriptions__product_id
    ON subscriptions (customer_id, environment, ordinal, product_id)
    WHERE NOT duplicate AND status NOT IN ('rejected', 'cancelled', 'expired');
