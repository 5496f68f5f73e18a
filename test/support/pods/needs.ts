/** RabbitMQ's versions that pods may have: the minor versions that brokers.sh knows. */
export const POD_VERSIONS = ['3.10', '4.0', '4.3'];

/** Names for QUORUMBRIDGE_WORLD_NEEDS of enter.sh: nothing can be fetched from inside. */
export const WORLD_NEEDS = [...POD_VERSIONS, 'control-plane', 'operator'];
