import type { PRESETS } from '../../common/contract.ts';

export type PresetName = (typeof PRESETS)[number];

/**
 * The presets, as rules files: what one says can be taken into a file of one's own and changed there. docs/rules.md shows
 * them (a test holds the two together).
 */
export const PRESET_RULES: Readonly<Record<PresetName, string>> = {
  generic: `rules: []
`,
  openstack: `rules:
  - name: reply queues of oslo.messaging
    match: {queue: "reply_*"}
    action: quorum
    expires: 30m
  - name: fanout queues of oslo.messaging
    match: {queue: "*_fanout_*"}
    action: quorum
    expires: 30m
`,
  celery: `rules:
  - name: remote control of Celery
    match: {queue: "*.pidbox"}
    action: classic-durable
  - name: events of Celery
    match: {queue: "celeryev.*"}
    action: classic-durable
  - name: results of Celery by message
    match: {queue: "????????-????-????-????-????????????"}
    action: classic-durable
`,
};
