-- What dbpilot asks of MariaDB beyond the application's own tables; docs/install.md says what each line is for, and what
-- is missing without it.
GRANT PROCESS ON *.* TO 'finstage'@'%';
GRANT SELECT ON performance_schema.* TO 'finstage'@'%';
GRANT SELECT, INSERT, CREATE, DROP, ALTER, INDEX ON `dbpilot\_shadow\_%`.* TO 'finstage'@'%';
GRANT SELECT, INSERT, DELETE ON mysql.innodb_table_stats TO 'finstage'@'%';
GRANT SELECT, INSERT, DELETE ON mysql.innodb_index_stats TO 'finstage'@'%';
GRANT SELECT ON mysql.column_stats TO 'finstage'@'%';
