// The page of 500 on Fastify, with schemas for the query and the response.
import { readFileSync } from 'node:fs';
import Fastify from 'fastify';

const page = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const text = { type: 'string' };
const object = (names, more = {}, required = []) => ({
  type: 'object',
  required,
  properties: { ...Object.fromEntries(names.map((name) => [name, text])), ...more },
});
const location = object(['city', 'region', 'country', 'street', 'postal_code', 'store_number'], {
  coordinates: { type: 'object', properties: { lat: { type: 'number' }, lon: { type: 'number' } } },
});
const transaction = object(
  ['id', 'account_id', 'amount', 'transacted_at', 'type', 'code', 'check_number', 'currency', 'non_iso_currency'],
  {
    description: { type: 'string', nullable: true },
    settled_at: { type: 'string', nullable: true },
    merchant: object(['name', 'mcc', 'website'], { location }),
    payment: object(['reference_number', 'ppd_id', 'payee', 'payer', 'by_order_of', 'payment_method', 'payment_processor', 'reason']),
  },
  ['id', 'account_id', 'amount', 'transacted_at', 'type', 'description', 'settled_at'],
);
const schema = {
  querystring: {
    type: 'object',
    required: ['start_date', 'end_date'],
    properties: {
      start_date: { type: 'string', format: 'date' },
      end_date: { type: 'string', format: 'date' },
      limit: { type: 'integer', minimum: 1, maximum: 500, default: 100 },
      offset: { type: 'integer', minimum: 0, default: 0 },
    },
  },
  response: {
    200: {
      type: 'object',
      required: ['total', 'transactions'],
      properties: { total: { type: 'integer' }, transactions: { type: 'array', items: transaction }, next_cursor: text },
    },
  },
};

const app = Fastify();
app.get('/users/:user_id/transactions', { schema }, async (request, reply) => {
  if (request.headers.authorization !== 'Bearer token') return reply.code(401).send();
  if (request.params.user_id !== 'user-ann') return reply.code(403).send();
  const { offset, limit } = request.query;
  return { total: page.total, transactions: page.transactions.slice(offset, offset + limit) };
});
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`127.0.0.1:${app.server.address().port} token`);
