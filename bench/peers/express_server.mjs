// The page of 500 on Express, in its usual style: manual checks, `res.json`.
import { readFileSync } from 'node:fs';
import express from 'express';

const page = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const isDate = (text) => /^\d{4}-\d{2}-\d{2}$/.test(text ?? '');
const app = express();
app.disable('etag');
app.get('/users/:user_id/transactions', (request, response) => {
  if (request.headers.authorization !== 'Bearer token') return response.status(401).end();
  if (request.params.user_id !== 'user-ann') return response.status(403).end();
  const { start_date, end_date } = request.query;
  const limit = Number(request.query.limit ?? 100);
  const offset = Number(request.query.offset ?? 0);
  if (!isDate(start_date) || !isDate(end_date) || !(limit >= 1 && limit <= 500)) return response.status(400).end();
  response.json({ total: page.total, transactions: page.transactions.slice(offset, offset + limit) });
});
const server = app.listen(0, '127.0.0.1', () => {
  console.log(`127.0.0.1:${server.address().port} token`);
});
