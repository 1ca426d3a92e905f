-- Gives the roles of schema.sql the passwords that the container has in its environment.
\getenv readonly APP_READONLY_PASSWORD
\getenv readwrite APP_READWRITE_PASSWORD
ALTER ROLE app_readonly LOGIN PASSWORD :'readonly';
ALTER ROLE app_readwrite LOGIN PASSWORD :'readwrite';
