-- How far rebuilds are, for whoever shows it: a rebuild tells each second, and its row goes with the swap.
CREATE TABLE rebuild_progress (
    projection        text PRIMARY KEY,
    -- The version whose rows are being made.
    version           int NOT NULL,
    phase             text NOT NULL,
    records_read      bigint NOT NULL,
    records_expected  bigint NOT NULL,
    started_at        timestamptz NOT NULL,
    told_at           timestamptz NOT NULL
);
