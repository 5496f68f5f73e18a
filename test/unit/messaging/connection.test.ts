import { readFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { parseMessaging } from '../../../messaging/config.ts';
import type { ConnectionConfig } from '../../../messaging/config/types.ts';
import {
  connectOptions,
  delayBefore,
  openConnection,
  reconnectPolicy,
} from '../../../messaging/connection.ts';

const connectionOf = (text: string): ConnectionConfig => parseMessaging('m.yaml', text, {}).connection;

describe('reconnecting', () => {
  it('waits longer each time up to half a minute, and never less than half of that', () => {
    const policy = reconnectPolicy(connectionOf('reconnect_delay: 1s'));
    const delays = (random: number) =>
      [1, 2, 3, 6, 100].map((attempt) => delayBefore(attempt, policy, random));
    expect(delays(0)).toEqual([1000, 2000, 4000, 30_000, 30_000]);
    expect(delays(1)).toEqual([500, 1000, 2000, 15_000, 15_000]);
  });

  it('ends after the attempts that are allowed in a row', () => {
    const policy = reconnectPolicy(connectionOf('max_reconnect_attempts: 2\nreconnect_delay: 1m'));
    expect([1, 2, 3].map((attempt) => delayBefore(attempt, policy, 0))).toEqual([60_000, 60_000, undefined]);
  });
});

describe('connecting', () => {
  it('tells amqplib what the file says, the virtual host encoded as it decodes it', () => {
    const { options, socket } = connectOptions(connectionOf('host: h\nvhost: a/b%\nheartbeat: 0'), 'me');
    expect(options).toEqual({
      protocol: 'amqp',
      hostname: 'h',
      port: 5672,
      username: 'guest',
      password: 'guest',
      vhost: 'a%2Fb%25',
      heartbeat: 0,
    });
    expect(socket).toMatchObject({ timeout: 30_000, clientProperties: { connection_name: 'me' } });
    expect(socket).not.toHaveProperty('rejectUnauthorized');
  });

  it('checks certificates unless told otherwise, against the file and the name that are given', () => {
    const text = `tls: { enabled: true, ca_file: ${import.meta.filename}, server_name: rabbit }`;
    const { options, socket } = connectOptions(connectionOf(text), 'me');
    expect(options).toMatchObject({ protocol: 'amqps', port: 5671 });
    expect(socket).toMatchObject({ rejectUnauthorized: true, servername: 'rabbit' });
    expect(socket.ca).toEqual(readFileSync(import.meta.filename));
    const open = connectOptions(
      connectionOf('host: 127.0.0.1\ntls: { enabled: true, skip_verify: true }'),
      'me',
    );
    expect(open.socket).toMatchObject({ rejectUnauthorized: false });
    expect(open.socket).not.toHaveProperty('servername');
    expect(() => connectOptions(connectionOf('tls: { enabled: true, ca_file: /nowhere }'), 'me')).toThrow(
      'key "ca_file" of tls: /nowhere cannot be read: ENOENT',
    );
  });

  it('ends in time with a broker that says nothing, and names it without the password', async () => {
    const server = net.createServer((socket) => socket.on('error', () => {}).resume());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const text = `url: amqp://me:sekret@127.0.0.1:${port}/v\nconnect_timeout: 50ms`;
    await expect(openConnection(connectionOf(text), 'me')).rejects.toThrow(
      new RegExp(`^RabbitMQ at 127\\.0\\.0\\.1:${port}, virtual host v: no connection within 0\\.05 s$`),
    );
    server.close();
    await once(server, 'close');
    await expect(openConnection(connectionOf(text), 'me')).rejects.toThrow(
      'connection refused: check host and port, and that it runs',
    );
  });
});
