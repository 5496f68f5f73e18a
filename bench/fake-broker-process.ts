import { readFileSync } from 'node:fs';
import { FakeBroker } from './fake-broker.ts';

// The fake broker as a process of its own, so that its CPU time can be told from the load's. With CERT and KEY (files) it
// takes TLS, too. It tells its ports, and its counts whenever it is asked.

const [cert, key] = process.argv.slice(2);
const files = cert === undefined ? undefined : { cert: readFileSync(cert), key: readFileSync(key!) };
const broker = new FakeBroker(files);

process.on('message', () => {
  const { opened, open, published } = broker;
  process.send!({ opened, open, published });
});
process.on('disconnect', () => process.exit());
process.send!(await broker.start());
