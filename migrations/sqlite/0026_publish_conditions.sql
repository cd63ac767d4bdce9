-- What agents say of a publish beside its status: how it is delivered instead, what has drifted. NULL: nothing.
ALTER TABLE product_publishes ADD COLUMN conditions TEXT;
