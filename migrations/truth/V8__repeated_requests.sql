-- Head of the chat that a request's path names, as it was when the request came first: what it is based on, however often
-- it comes again.
ALTER TABLE idempotent_answer ADD COLUMN based_on_seq bigint;
