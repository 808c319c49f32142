// Package archcheck keeps the house's rules: who may import whom, that every package says what it is for, and which words and files
// do not belong here. The rules are the tables in its test; each ban has its reason beside it.
package archcheck
