-- An address is one device: whoever registers it takes it from whoever had it before. By its hash, since an address may be
-- longer than an index takes.
CREATE INDEX user_device_address ON user_device (hashtextextended(address, 0));

-- How often in a row its service refused what went to it.
ALTER TABLE user_device ADD COLUMN refusals int NOT NULL DEFAULT 0;

-- Checks of a file that ended for want of time or memory, which may be this machine's fault or the file's.
ALTER TABLE media ADD COLUMN failed_checks int NOT NULL DEFAULT 0;
