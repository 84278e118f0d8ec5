/** The metrics that the page reads, as the program names them. A test holds them against its constants. */

export const ACCEPTED = 'waltalkie_gateway_commands_accepted_total';
export const ACCEPT_SECONDS = 'waltalkie_gateway_accept_seconds';
export const DECIDE_SECONDS = 'waltalkie_gateway_decide_seconds';
export const REFUSALS = 'waltalkie_gateway_refusals_total';
export const LIMITED = 'waltalkie_gateway_limited_total';
export const ANSWERS_FROM_TABLES = 'waltalkie_gateway_answers_from_tables_total';

export const PERSISTER_LAG = 'waltalkie_persister_lag_records';
export const PERSISTED = 'waltalkie_persister_commands_total';
export const BATCH_SECONDS = 'waltalkie_persister_batch_seconds';
export const BATCH_RETRIES = 'waltalkie_persister_batch_retries_total';
export const OPEN_DEAD_LETTERS = 'waltalkie_persister_open_dead_letters';

export const ROWS = 'waltalkie_cdc_rows_total';
export const PUBLISH_SECONDS = 'waltalkie_cdc_publish_seconds';
export const ARRIVAL_SECONDS = 'waltalkie_cdc_arrival_seconds';
export const FAILED_TRANSACTIONS = 'waltalkie_cdc_failed_transactions_total';
export const UNCONFIRMED = 'waltalkie_cdc_unconfirmed_bytes';
export const WAL_RETAINED = 'waltalkie_cdc_wal_retained_bytes';
export const IS_STREAMING = 'waltalkie_cdc_is_streaming';

export const PUBLISHER_LAG = 'waltalkie_publisher_lag_records';
export const PUBLISHED = 'waltalkie_publisher_events_total';
export const RECEIPTS = 'waltalkie_publisher_receipts_total';
export const PUBLISH_RETRIES = 'waltalkie_publisher_retries_total';

export const CONNECTIONS = 'waltalkie_fanout_connections';
export const CHATS = 'waltalkie_fanout_chats';
export const HEARD = 'waltalkie_fanout_events_total';
export const DELIVERIES = 'waltalkie_fanout_deliveries_total';
export const EVENT_AGE = 'waltalkie_fanout_event_age_seconds';
export const LOSSES = 'waltalkie_fanout_pubsub_losses_total';
export const HEALED = 'waltalkie_fanout_healed_events_total';
export const QUEUED_BYTES = 'waltalkie_fanout_queued_bytes';
export const SLOW = 'waltalkie_fanout_slow_connections_total';

export const APPLIED = 'waltalkie_projector_applied_records_total';
export const PROJECTION_AGE = 'waltalkie_projector_lag_seconds';
export const POISON = 'waltalkie_projector_poison_records_total';
export const PROJECTOR_PUT_ASIDE_AT = 'waltalkie_projector_dead_letter_at_seconds';
/** `waltalkie_projector_membership_lag_records` and so on. */
export const PROJECTION_LAG = { start: 'waltalkie_projector_', end: '_lag_records' };
export const DECISIONS = 'waltalkie_notifier_decisions_total';
export const DECIDER_LAG = 'waltalkie_notifier_decider_lag_records';
export const INTAKE_LAG = 'waltalkie_notifier_intake_lag_records';
export const NOTIFIED = 'waltalkie_notifier_published_notifications_total';
export const WAITING_TASKS = 'waltalkie_notifier_waiting_tasks';
export const TRIES = 'waltalkie_notifier_tries_total';
export const DELIVERY_SECONDS = 'waltalkie_notifier_delivery_seconds';
export const OPEN_BREAKERS = 'waltalkie_notifier_open_breakers';
export const UNSENT = 'waltalkie_notifier_dead_letters_total';

export const OPERATED = 'waltalkie_operators_events_total';
export const OPERATORS_LAG = 'waltalkie_operators_lag_records';
export const NUMBERS = 'waltalkie_operators_rows_total';
export const NUMBERS_SECONDS = 'waltalkie_operators_transaction_seconds';
export const OPERATORS_PUT_ASIDE_AT = 'waltalkie_operators_dead_letter_at_seconds';
export const NUMBERS_FAILED = 'waltalkie_operators_failed_transactions_total';
export const LATE = 'waltalkie_operators_late_events_total';

/** The projection that stays behind on purpose, so that rows for people who are online needn't be made. */
export const KEPT_BEHIND = 'inbox_events';
