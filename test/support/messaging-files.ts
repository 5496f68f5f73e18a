// Files as programs that Quorumbridge's kit is for have them: a broker for tasks, and a configured consumer of events.

/** The connection of a task queue, by the names that it has in its program. */
export const TASKS_CONNECTION = `rabbitmq:
  host: \${RABBITMQ_HOST:-localhost}
  port: \${RABBITMQ_PORT:-5672}
  username: \${RABBITMQ_USER:-tasks}
  password: \${RABBITMQ_PASSWORD:-tasks-password}
  vhost: \${RABBITMQ_VHOST:-/}
  connect_timeout: 30s
  heartbeat: 10s
  max_reconnect_attempts: 10
  reconnect_delay: 5s
  publisher_confirm: true
  publish_timeout: 10s
  prefetch_count: 10
  prefetch_global: false
  tls:
    enabled: false
    cert_file: ""
    key_file: ""
    ca_file: ""
    skip_verify: false
`;

/** The same with what it declares in code: five queues, one of them with priorities, retries and dead letters. */
export const TASKS = `${TASKS_CONNECTION}
  exchanges:
    - name: tasks
      kind: direct
      dlx_name: tasks.dlx
      dlq_name: tasks.dlq
      queues:
        - { name: tasks.background, bindings: [background], retry: true }
        - { name: tasks.llm, bindings: [llm], max_priority: 10, retry: [5s, 1m] }
        - { name: tasks.debate, bindings: [debate], message_ttl: 10m }
        - { name: tasks.verification, bindings: [verification], max_length: 1000 }
        - { name: tasks.notifications, bindings: [notifications], delivery_limit: none }
    - { name: events, kind: topic }
    - { name: notices, kind: fanout }
`;

/** Two event handlers of a service, which share a dead-letter exchange. */
export const EVENTS = `rabbitmq:
  enabled: true
  url: amqp://guest:guest@localhost:5672/
  tls:
    # root_ca: /etc/ssl/certs/ca.pem
    insecure_skip_validation: false
    # server_name: rabbit.internal
  exchanges:
    - name: auth
      kind: topic
      durable: true
      declare_exchange: true
      dlx_name: auth.dlx
      dlq_name: auth.dlq
      queues:
        - name: user.password.updated
          declare: true
          declare_dlx: true
          declare_dlq: true
          prefetch: 8
          delivery_limit: 5
          bindings:
            - password.changed
        - name: user.created
          declare: true
          declare_dlx: false
          declare_dlq: true
          dlq_name: user.created.dlq
          prefetch: 8
          delivery_limit: 5
          bindings:
            - user.created
`;

/** What brokers have that the keys of a file describe in part or not at all. */
export const ODDITIES = `rabbitmq:
  exchanges:
    - name: heads
      kind: headers
      queues:
        - name: odd.limits
          delivery_limit: none
          dlx_name: odd.dlx
          dlq_name: odd.dlq
          dlq_max_length: none
          dlq_message_ttl: none
          bindings:
            - arguments: { x-match: all, kind: report, n: 5 }
    - name: notes
      kind: fanout
      arguments: { alternate-exchange: heads }
      queues:
        - name: 'notes.$\${brace}'
          bindings: ['']
        - { name: odd.limits, declare: false }
    - name: amq.topic
      declare_exchange: false
      queues:
        - { name: odd.limits, declare: false, bindings: ['a.#', b] }
        - { name: odd.stream, bindings: [c], arguments: { x-queue-type: stream, x-max-length-bytes: 1000000 } }
    - name: ''
      queues:
        - { name: alone, queue_type: classic }
`;

/** The keys that none of the others has, and values that are no defaults. */
export const REST = `rabbitmq:
  host: localhost
  tls: { server_name: rabbit.internal }
  publisher: { confirm: false, publish_timeout: 5s }
  consumer: { prefetch_count: 3, prefetch_global: false }
  exchanges:
    - name: rest
      kind: direct
      durable: false
      dlq_message_ttl: 1d
      dlq_max_length: 500
      queues:
        - name: rest.classic
          bindings: [a, b]
          queue_type: classic
          delivery_limit: 3
          message_ttl: 90s
          max_length: 10
          prefetch: 1
          retry: 1500ms
          dlx_name: rest.classic.dlx
          dlq_name: rest.classic.dlq
        - name: rest.urgent
          bindings: [c]
          max_priority: 5
          delivery_limit: 7
          retry: [1s, 1m]
          dlx_name: rest.urgent.dlx
          dlq_name: rest.urgent.dlq
          dlq_message_ttl: 12h
          dlq_max_length: none
        - name: rest.keyless
          bindings: ['']
          dlx_name: rest.classic.dlx
          declare_dlx: false
          declare_dlq: false
`;
