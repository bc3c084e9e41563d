-- How an endpoint wants its webhooks, as JSON of `domain::endpoint::Policy`: what is not in it is as the installation
-- has it. Rows from before are folded anew.
ALTER TABLE endpoints ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
