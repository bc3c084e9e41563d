-- What a replay could not compare, and what its copies took over from the live tables because a log that drops its
-- records by age no longer tells it; both JSON. A phase may now also be `paused` or `finishing`.
ALTER TABLE rebuilds ADD COLUMN not_compared TEXT;
ALTER TABLE rebuilds ADD COLUMN carried TEXT;
