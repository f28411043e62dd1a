// Reads documents and answers their exclusive canonical forms without comments, as
// libxml2 writes them: of the whole, and of each element in place, in document order.
//
// In:  (length, document)...
// Out: (count, (length, form)...)... ; a count of 0: libxml2 refused the document.
// Numbers are 32 bits, big-endian.
#include <libxml/c14n.h>
#include <libxml/parser.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what) {
	fprintf(stderr, "libxml2.c: %s\n", what);
	exit(1);
}

static int number(uint32_t *n) {
	unsigned char b[4];
	size_t got = fread(b, 1, 4, stdin);
	if (got == 0)
		return 0;
	if (got != 4)
		fail("half a number");
	*n = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
	return 1;
}

static void answer(uint32_t n) {
	unsigned char b[4] = {n >> 24, n >> 16, n >> 8, n};
	fwrite(b, 1, 4, stdout);
}

static void form(const xmlChar *s, size_t n) {
	answer((uint32_t)n);
	fwrite(s, 1, n, stdout);
}

// A namespace or an attribute belongs to its parent.
static int in_subtree(void *root, xmlNodePtr node, xmlNodePtr parent) {
	if (node == NULL || node->type == XML_NAMESPACE_DECL || node->type == XML_ATTRIBUTE_NODE)
		node = parent;
	for (; node != NULL; node = node->parent)
		if (node == root)
			return 1;
	return 0;
}

static uint32_t count(xmlNodePtr node) {
	uint32_t n = 0;
	for (; node != NULL; node = node->next)
		if (node->type == XML_ELEMENT_NODE)
			n += 1 + count(node->children);
	return n;
}

static void each(xmlDocPtr doc, xmlNodePtr node) {
	for (; node != NULL; node = node->next) {
		if (node->type != XML_ELEMENT_NODE)
			continue;
		xmlBufferPtr to = xmlBufferCreate();
		xmlOutputBufferPtr out = xmlOutputBufferCreateBuffer(to, NULL);
		if (xmlC14NExecute(doc, in_subtree, node, XML_C14N_EXCLUSIVE_1_0, NULL, 0, out) < 0 || xmlOutputBufferClose(out) < 0)
			fail("an element of a document that has a canonical form has none");
		form(xmlBufferContent(to), xmlBufferLength(to));
		xmlBufferFree(to);
		each(doc, node->children);
	}
}

static void quiet(void *context, const char *message, ...) {}

int main(void) {
	uint32_t n;
	xmlSetGenericErrorFunc(NULL, quiet);
	while (number(&n)) {
		char *source = malloc(n + 1);
		if (source == NULL || fread(source, 1, n, stdin) != n)
			fail("half a document");
		xmlDocPtr doc = xmlReadMemory(source, n, NULL, NULL, XML_PARSE_NONET | XML_PARSE_HUGE | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
		xmlChar *whole = NULL;
		int length = doc == NULL ? -1 : xmlC14NDocDumpMemory(doc, NULL, XML_C14N_EXCLUSIVE_1_0, NULL, 0, &whole);
		if (length < 0) {
			answer(0);
		} else {
			answer(1 + count(doc->children));
			form(whole, length);
			each(doc, doc->children);
			xmlFree(whole);
		}
		if (doc != NULL)
			xmlFreeDoc(doc);
		free(source);
		fflush(stdout);
	}
	return 0;
}
