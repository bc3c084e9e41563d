-- What keeps projectors that run at this moment from going on, told by their processes every second while it lasts: so
-- that whoever asks learns it from any process. Nothing but a table of what is so now; it can be emptied at any time.
CREATE TABLE projector_troubles (
    projection TEXT NOT NULL,
    -- Which running process says so, by a name it drew when it started.
    process TEXT NOT NULL,
    -- 1: it has stopped for good, and only an operator can help.
    stopped BIGINT NOT NULL,
    error TEXT NOT NULL,
    -- When it said so last, in milliseconds since 1970: what is not repeated counts no more.
    told_at BIGINT NOT NULL,
    CONSTRAINT projector_troubles_pkey PRIMARY KEY (projection, process)
);
