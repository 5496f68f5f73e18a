// What programs import of the messaging kit.
export { type MessagingConfig, loadConfig, parseMessaging } from './config.ts';
export { BrokerFailure } from './errors.ts';
export { Consumers, type ConsumersSettings, type ConsumersStats } from './consumer/consumers.ts';
export {
  type Context,
  type Handler,
  type HandlerSettings,
  type Schema,
  handler,
} from './consumer/handler.ts';
export type { Confirmation } from './publisher/entry.ts';
export { PublishError, type PublishFailure } from './publisher/errors.ts';
export type { OutgoingMessage } from './publisher/message.ts';
export { type MetricsSources, messagingMetrics, registerMessagingMetrics } from './observe/metrics.ts';
export { type OpenTelemetryApi, type Propagator, openTelemetry } from './observe/propagation.ts';
export { Publisher, type PublisherSettings, type PublisherStats } from './publisher/publisher.ts';
export { declareAll } from './topology/apply.ts';
export { UPGRADE_EVENT_PHASES, UPGRADE_EXCHANGE, type UpgradeEvent, upgradeEvent } from './upgrade-event.ts';
