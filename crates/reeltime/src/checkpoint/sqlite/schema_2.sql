-- Which directory, and which destination, wherever they are seen from; '' where that was not noted.

ALTER TABLE streams ADD COLUMN source_mark TEXT NOT NULL DEFAULT '';
ALTER TABLE streams ADD COLUMN destination TEXT NOT NULL DEFAULT '';
