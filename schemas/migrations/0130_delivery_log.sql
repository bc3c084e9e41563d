-- What a receiver answered in the head of its response, as JSON, and where the attempt's record stands in the delivery
-- log, which has the request as it was sent. The fold has a new version with this and makes the rows anew.
ALTER TABLE attempts ADD COLUMN response_head TEXT;
ALTER TABLE attempts ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0;
