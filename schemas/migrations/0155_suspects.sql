-- A record that a log of events was found not to have as the archive has it: every process looks whether it has it now.
-- Its sequence, and the SHA-256 of what was appended, in hexadecimal digits; NULL where there is none.
ALTER TABLE event_log_origins ADD COLUMN suspect BIGINT;
ALTER TABLE event_log_origins ADD COLUMN suspect_digest TEXT;
