-- Until when an endpoint's former secret signs beside its present one. No endpoint had its secret rotated before this
-- column was there, so the rows that are there need not be folded anew.
ALTER TABLE endpoints ADD COLUMN previous_secret_valid_until BIGINT;
