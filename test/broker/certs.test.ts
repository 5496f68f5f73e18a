// What `quorumbridge certs` makes, as RabbitMQ takes it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, credentials } from 'amqplib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Broker, startBroker } from '../support/broker.ts';
import { describeBrokers } from '../support/describe-brokers.ts';
import { generateCerts } from '../support/generated-certs.ts';

/** A client's certificate, if it has one, and how it logs in. */
interface Login {
  cert?: string | undefined;
  key?: string | undefined;
  ca?: string | undefined;
  credentials: ReturnType<typeof credentials.external>;
}

/** rabbitmq.conf as the command prints it, and the client's certificate as its login. */
function settings(files: Record<string, string>) {
  return {
    files,
    conf: `
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
listeners.ssl.1 = 127.0.0.1:@AMQPS@
ssl_options.cacertfile = @FILES@/ca.crt
ssl_options.certfile = @FILES@/server.crt
ssl_options.keyfile = @FILES@/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true`,
  };
}

await describeBrokers(['4.3'], (version) => {
  let root: string;
  let broker: Broker;

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'quorumbridge-certs-'));
    broker = await startBroker(version, { plugins: ['rabbitmq_auth_mechanism_ssl'] });
  });
  afterAll(async () => {
    await broker?.stop();
    await rm(root, { recursive: true, force: true });
  });

  it.each(['ecdsa', 'rsa'])(
    'takes %s certificates on both sides, and no client without a good one',
    async (type) => {
      const kind = `--key-type=${type}`;
      const made = await generateCerts(join(root, type), kind);
      const authority = [`--ca=${join(root, type, 'ca.crt')}`, `--ca-key=${join(root, type, 'ca.key')}`];
      const ended = await generateCerts(join(root, `${type}-ended`), kind, ...authority, '--expired');
      const strange = await generateCerts(join(root, `${type}-strange`), kind);
      await broker.restart(settings(made));
      const open = async (client: Login, host = 'localhost') => {
        const trust = { host: '127.0.0.1', servername: host, ca: made['ca.crt'] };
        return connect(`amqps://127.0.0.1:${broker.amqpsPort}/`, { ...trust, ...client });
      };
      const external = { credentials: credentials.external() };
      const good = { cert: made['client.crt'], key: made['client.key'], ...external };
      const model = await open(good);
      await (await model.createChannel()).checkExchange('amq.topic');
      const listed = await broker.ctl(
        '-q',
        'list_connections',
        'user',
        'auth_mechanism',
        'ssl',
        'peer_cert_subject',
      );
      expect(listed).toContain('guest\tEXTERNAL\ttrue\tCN=guest');
      await model.close();

      await expect(open(good, 'rabbit.example.org')).rejects.toThrow(/altnames/);
      await expect(open({ ...good, ca: strange['ca.crt'] })).rejects.toThrow(/certificate/);
      await expect(open(external)).rejects.toThrow(/certificate required/i);
      const late = { cert: ended['client.crt'], key: ended['client.key'], ...external };
      await expect(open(late)).rejects.toThrow(/certificate expired/i);
      const unknown = { cert: strange['client.crt'], key: strange['client.key'], ...external };
      await expect(open(unknown)).rejects.toThrow(/unknown ca/i);

      // The server's own have ended.
      await broker.restart(settings(ended));
      await expect(open(good)).rejects.toThrow(/expired/);
    },
  );
});
