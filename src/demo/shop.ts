/**
 * The demo's business: a shop's tables, filled on the server by arithmetic on row numbers. The same size always gives the
 * same rows, so what a recovery brings back can be compared with what must be there.
 */
export interface ShopSize {
  customers: number
  products: number
  orders: number
  documents: number
  attachments: number
}

/** Rows for about so many megabytes of database. */
export function shopSize(megabytes: number): ShopSize {
  return {
    customers: 200 * megabytes,
    products: 20 * megabytes,
    orders: 900 * megabytes,
    documents: 330 * megabytes,
    attachments: 46 * megabytes,
  }
}

/** Each order has so many lines. */
export const LINES_PER_ORDER = 2

/** One table: made, filled and indexed in one transaction, which spares the write-ahead log under wal_level=minimal. */
export interface ShopTable {
  name: string
  sql: string
}

/**
 * Two lanes of tables of about equal work, to be filled over a connection each; then `links` joins them. Numbers that
 * look random are hashes of the row's number.
 */
export function shopTables(size: ShopSize): [ShopTable[], ShopTable[]] {
  const sales: ShopTable[] = [
    {
      name: 'customers',
      sql: `create table customers (id int, name text not null, email text not null, address jsonb not null,
              joined_at timestamptz not null);
            insert into customers select i, 'Customer ' || i, 'customer' || i || '@example.com',
              jsonb_build_object('street', substr(md5('street' || i), 1, 12) || ' road ' || ${hash('i', 1, 200)},
                'zip', lpad((${hash('i', 2, 99999)})::text, 5, '0'),
                'city', (array['Berlin', 'Łódź', 'São Paulo', '東京', 'Kraków', 'Zürich'])[1 + ${hash('i', 3, 6)}]),
              timestamptz '2020-01-01 00:00:00+00' + make_interval(mins => ${hash('i', 4, 2_600_000)})
              from generate_series(1, ${size.customers}) i;
            alter table customers add primary key (id);`,
    },
    {
      name: 'orders',
      sql: `create table orders (id bigint, customer_id int not null, placed_at timestamptz not null, status text not null,
              total numeric(12,2) not null);
            insert into orders select i, 1 + ${hash('i', 5, size.customers)},
              timestamptz '2024-01-01 00:00:00+00' + make_interval(secs => i * 2),
              (array['paid', 'packed', 'sent', 'returned'])[1 + ${hash('i', 6, 4)}], (${hash('i', 7, 50_000)})::numeric / 100
              from generate_series(1, ${size.orders}) i;
            alter table orders add primary key (id);`,
    },
    {
      name: 'order_lines',
      sql: `create table order_lines (order_id bigint, line int, product_id int not null, quantity int not null,
              price numeric(10,2) not null);
            insert into order_lines select i, n, 1 + ${hash('i * 7 + n', 8, size.products)}, 1 + ${hash('i * 7 + n', 9, 5)},
              (${hash('i * 7 + n', 10, 10_000)})::numeric / 100
              from generate_series(1, ${size.orders}) i, generate_series(1, ${LINES_PER_ORDER}) n;
            alter table order_lines add primary key (order_id, line);`,
    },
    {
      name: 'payments',
      sql: `create table payments (seq bigint, order_id bigint, amount numeric(12,2) not null, reference text not null,
              paid_at timestamptz not null default now());
            alter table payments add primary key (seq);`,
    },
  ]
  const goods: ShopTable[] = [
    {
      name: 'products',
      sql: `create table products (id int, sku text not null, name text not null, price numeric(10,2) not null, picture bytea);
            insert into products select i, 'SKU-' || lpad(i::text, 8, '0'), 'Product ' || substr(md5('name' || i), 1, 16),
              (${hash('i', 11, 10_000)})::numeric / 100, ${noise('i', 24)}
              from generate_series(1, ${size.products}) i;
            alter table products add primary key (id);`,
    },
    {
      name: 'documents',
      sql: `create table documents (id bigint, order_id bigint not null, body jsonb not null);
            insert into documents select i, 1 + ${hash('i', 12, size.orders)}, jsonb_build_object(
              'kind', (array['invoice', 'delivery note', 'complaint'])[1 + ${hash('i', 13, 3)}], 'number', 'D' || i,
              'text', repeat('We thank you for your order, reference ' || md5('text' || i) || '. ', 1 + ${hash('i', 14, 8)}),
              'parties', jsonb_build_array(md5('a' || i), md5('b' || i)), 'approved', ${hash('i', 15, 2)} = 0)
              from generate_series(1, ${size.documents}) i;
            alter table documents add primary key (id);`,
    },
    {
      name: 'attachments',
      sql: `create table attachments (id bigint, document_id bigint not null, media_type text not null, content bytea not null);
            alter table attachments alter content set storage external;
            insert into attachments select i, 1 + ${hash('i', 16, size.documents)}, 'application/pdf', ${noise('i', 128)}
              from generate_series(1, ${size.attachments}) i;
            alter table attachments add primary key (id);`,
    },
  ]
  return [sales, goods]
}

export const SHOP_LINKS = [
  'alter table orders add foreign key (customer_id) references customers',
  'alter table order_lines add foreign key (order_id) references orders',
  'alter table documents add column archived boolean not null default false',
]

/** A number from 0 to `below` - 1 that looks random: `salt` makes columns of one row independent. */
function hash(expression: string, salt: number, below: number): string {
  return `mod(hashint8extended((${expression})::bigint, ${salt}) & 9007199254740991, ${below})::int`
}

/** Bytes that do not compress, 64 for each block. */
function noise(expression: string, blocks: number): string {
  return `(select string_agg(sha512(int8send((${expression})::bigint) || int4send(b)), '') from generate_series(1, ${blocks}) b)`
}

/**
 * The transaction of the live writer with number `seq`: an order with its lines and its payment, all of it or nothing.
 * Every value follows from `seq`, so a recovered row can be checked without a copy of it.
 */
export function orderStatements(seq: number, size: ShopSize): string {
  const orderId = size.orders + seq
  const lines = Array.from(
    { length: LINES_PER_ORDER },
    (_, i) => `(${orderId}, ${i + 1}, ${1 + ((seq + i) % size.products)}, ${1 + (seq % 5)}, ${seq % 100}.50)`,
  )
  return `insert into orders (id, customer_id, placed_at, status, total)
            values (${orderId}, ${1 + (seq % size.customers)}, now(), 'paid', ${amount(seq)});
          insert into order_lines (order_id, line, product_id, quantity, price) values ${lines.join(', ')};
          ${paymentStatement(seq, orderId)}`
}

/** What the shop still can do when its orders are gone: take the payment of an earlier one. */
export function paymentStatement(seq: number, orderId: number | null): string {
  return `insert into payments (seq, order_id, amount, reference)
            values (${seq}, ${orderId ?? 'null'}, ${amount(seq)}, md5('payment ${seq}'))`
}

function amount(seq: number): string {
  return `${seq % 500}.${String(seq % 100).padStart(2, '0')}`
}

/** Recovered payments whose content is not what their number says. Must count 0. */
export const WRONG_PAYMENTS = `select count(*) from payments where reference <> md5('payment ' || seq)
  or amount <> seq % 500 + (seq % 100)::numeric / 100`

/** Transactions of the live writer of which only a part is there. Must count 0. */
export function tornTransactions(size: ShopSize): string {
  return `select count(*) from
    (select seq, order_id, amount from payments where order_id is not null) p
    full join (select id, total from orders where id > ${size.orders}) o on o.id = p.order_id
    left join (select order_id, count(*) as lines from order_lines where order_id > ${size.orders} group by 1) l
      on l.order_id = o.id
    where p.seq is null or o.id is null or o.total <> p.amount or l.lines is distinct from ${LINES_PER_ORDER}`
}
