-- Files in messages: from the wish to upload one to the removal of its objects.
--
--   uploading ──▶ checking ──▶ ready ──▶ removing ──▶ (gone)
--       ▲            │  └────▶ refused ─────▲
--       └── failed ──┘
-- No version before this one wrote to the table, so no row waits for what the new columns hold.
ALTER TABLE media
    ADD COLUMN chat_id        text NOT NULL,
    ADD COLUMN state          text NOT NULL CHECK (state IN ('uploading', 'checking', 'ready', 'refused', 'removing')),
    -- As its uploader declared it.
    ADD COLUMN content_type   text NOT NULL,
    ADD COLUMN size_bytes     bigint NOT NULL,
    -- The key that URLs to upload with name, and until when the last of them counts.
    ADD COLUMN upload_key     text NOT NULL,
    ADD COLUMN urls_until     timestamptz NOT NULL,
    -- Of an upload in parts.
    ADD COLUMN upload_id      text,
    ADD COLUMN part_bytes     bigint,
    -- The folder of the copy that was checked, and of its previews. No URL to upload with ever names it.
    ADD COLUMN folder         text,
    -- Who checks it, and when they last said so.
    ADD COLUMN claim          uuid,
    ADD COLUMN claimed_at     timestamptz,
    -- What was found: the attachment as events have it, and what only readers of the file are shown.
    ADD COLUMN attachment     jsonb,
    ADD COLUMN details        jsonb,
    ADD COLUMN sha256         bytea,
    -- Why it is refused, for people.
    ADD COLUMN refusal        text,
    ADD COLUMN is_posted      boolean NOT NULL DEFAULT false,
    ADD COLUMN changed_at     timestamptz NOT NULL;
CREATE INDEX media_unposted ON media (state, changed_at) WHERE NOT is_posted OR state = 'removing';
CREATE INDEX media_open_uploads ON media (user_id) WHERE state IN ('uploading', 'checking');

-- Which messages name a file. Whoever may see one of them may read it.
CREATE TABLE media_use (
    chat_id          text NOT NULL,
    sequence_number  bigint NOT NULL,
    media_id         text NOT NULL,
    PRIMARY KEY (chat_id, sequence_number, media_id)
);
CREATE INDEX media_use_of_media ON media_use (media_id);

-- Folders of the store in which something may be left, noted before it is written there. A file that turns out well takes
-- its note back; the janitor empties the others once their time has come.
CREATE TABLE media_leftover (
    folder      text PRIMARY KEY,
    -- An upload in parts that is to be given up: its key is in the folder.
    upload_key  text,
    upload_id   text,
    due_at      timestamptz NOT NULL
);
CREATE INDEX media_leftover_due_at ON media_leftover (due_at);
