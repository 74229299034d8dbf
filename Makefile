# Shortcuts for the commands of package.json. They run through npm, which puts the project's own Node first on the path.
.PHONY: dev test lint types format migrate

dev:
	npm start

test:
	npm test

lint:
	npm run lint

types:
	npm run types

format:
	npm run format

migrate:
	npm run migrate -- up
