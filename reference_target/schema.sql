-- What the target keeps in PostgreSQL, and who may do what with it. Safe to apply again and again.

SELECT pg_advisory_xact_lock(7416258319);  -- roles belong to the cluster: two at once would race

CREATE TABLE IF NOT EXISTS symbols (
    symbol text PRIMARY KEY,
    name   text NOT NULL
);

CREATE TABLE IF NOT EXISTS events (
    id        bigserial PRIMARY KEY,
    symbol    text NOT NULL,
    pattern   text NOT NULL,
    timestamp timestamptz NOT NULL,
    details   jsonb NOT NULL DEFAULT '{}',
    run       text
);
CREATE INDEX IF NOT EXISTS events_newest ON events (timestamp DESC, id DESC);
CREATE INDEX IF NOT EXISTS events_pattern ON events (pattern);
CREATE INDEX IF NOT EXISTS events_run ON events (run) WHERE run IS NOT NULL;

INSERT INTO symbols (symbol, name) VALUES
    ('AAPL', 'Apple'), ('ABBV', 'AbbVie'), ('ABT', 'Abbott Laboratories'), ('ACN', 'Accenture'), ('ADBE', 'Adobe'),
    ('AMD', 'Advanced Micro Devices'), ('AMGN', 'Amgen'), ('AMZN', 'Amazon'), ('AVGO', 'Broadcom'),
    ('AXP', 'American Express'), ('BA', 'Boeing'), ('BAC', 'Bank of America'), ('BLK', 'BlackRock'),
    ('CAT', 'Caterpillar'), ('COST', 'Costco'), ('CRM', 'Salesforce'), ('CSCO', 'Cisco Systems'), ('CVX', 'Chevron'),
    ('DE', 'Deere'), ('DIA', 'SPDR Dow Jones Industrial Average ETF'), ('DIS', 'Walt Disney'), ('GE', 'GE Aerospace'),
    ('GILD', 'Gilead Sciences'), ('GOOGL', 'Alphabet'), ('GS', 'Goldman Sachs'), ('HD', 'Home Depot'),
    ('HON', 'Honeywell'), ('IBM', 'IBM'), ('INTC', 'Intel'), ('IWM', 'iShares Russell 2000 ETF'),
    ('JNJ', 'Johnson & Johnson'), ('JPM', 'JPMorgan Chase'), ('KO', 'Coca-Cola'), ('LLY', 'Eli Lilly'),
    ('LMT', 'Lockheed Martin'), ('MA', 'Mastercard'), ('MCD', 'McDonald''s'), ('META', 'Meta Platforms'), ('MMM', '3M'),
    ('MRK', 'Merck'), ('MS', 'Morgan Stanley'), ('MSFT', 'Microsoft'), ('NFLX', 'Netflix'), ('NKE', 'Nike'),
    ('NVDA', 'NVIDIA'), ('ORCL', 'Oracle'), ('PEP', 'PepsiCo'), ('PFE', 'Pfizer'), ('PG', 'Procter & Gamble'),
    ('QCOM', 'Qualcomm'), ('QQQ', 'Invesco QQQ Trust'), ('SBUX', 'Starbucks'), ('SPY', 'SPDR S&P 500 ETF'), ('T', 'AT&T'),
    ('TSLA', 'Tesla'), ('TXN', 'Texas Instruments'), ('UNH', 'UnitedHealth'), ('UPS', 'United Parcel Service'),
    ('V', 'Visa'), ('VZ', 'Verizon'), ('WFC', 'Wells Fargo'), ('WMT', 'Walmart'), ('XOM', 'Exxon Mobil')
ON CONFLICT (symbol) DO UPDATE SET name = excluded.name WHERE symbols.name <> excluded.name;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_readonly') THEN
        CREATE ROLE app_readonly LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_readwrite') THEN
        CREATE ROLE app_readwrite LOGIN;
    END IF;
    -- before version 15 everyone could create tables here, and temporary ones everyone still can
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO app_readonly, app_readwrite', current_database());
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO app_readonly, app_readwrite;
REVOKE ALL ON symbols, events FROM app_readonly;
GRANT SELECT ON symbols, events TO app_readonly;
GRANT SELECT, INSERT, UPDATE, DELETE ON symbols, events TO app_readwrite;
GRANT USAGE, SELECT ON SEQUENCE events_id_seq TO app_readwrite;
