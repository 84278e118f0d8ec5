-- Which version of a projection made its rows. A program with another one doesn't touch them: it rebuilds.
CREATE TABLE projection_version (
    projection  text PRIMARY KEY,
    version     int NOT NULL,
    -- When its tables were last made again from the history.
    rebuilt_at  timestamptz
);
-- What is there was made by the first versions.
INSERT INTO projection_version (projection, version) SELECT DISTINCT consumer, 1 FROM consumer_offset;
